"""The published table of hypergradient descent on MNIST, beside what we get.

Every row of Table 1 of "Gradient Descent: The Ultimate Optimizer" (K. Chandra, A. Xie,
J. Ragan-Kelley, E. Meijer, NeurIPS 2022, arXiv:1909.13371): a network of 784-128-10, batches
of 256, 30 epochs, three seeds side by side, towers without a constraint on what they learn.

The paper's SGD and AdaGrad rows are what 30 epochs give here. Its Adam and RMSProp rows are
what 5 epochs give, in their errors and in what the towers have learned by then; after 30 the
same rows are better. Five is what the example in the package's README trains for. So each
row stands beside the paper's after both.

Our recipe's rows, `jd.self_tuning`, are single runs from its default start, tested at the
average of their path.

Without MNIST, on scikit-learn's digits, rows can be compared with each other only.
"""

from experiments.studies.gdtuo_table.study import Settings, check, run

__all__ = ["Settings", "check", "run"]
