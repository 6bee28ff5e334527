"""The tests' settings keep processes that share cores from waiting for each other."""

from threadpoolctl import threadpool_info


def test_linear_algebra_has_one_thread():
    libraries = [each for each in threadpool_info() if each["user_api"] == "blas"]
    assert libraries
    assert {each["num_threads"] for each in libraries} == {1}
