"""The paper's tables, figures and findings, from the runs that `ektf_jax.report` reads.

names       what the paper calls models and methods
select      which runs are which of the paper's models
published   the paper's and the authors' numbers, as data
rows        rows of tables, and columns made of them, for
tables      Tables 2 to 5, and
claims      whether EKTF beats a single MLP and the plain mean
series      metrics over K, for
figures     Figures 2, 3, 4, 5, 7, 8, training curves, and
findings    Findings 1 to 6
page        all of it, written
"""
