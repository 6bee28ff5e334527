"""What is not collected here: a script that needs other libraries than ours."""

collect_ignore = ["make_fixtures.py"]
