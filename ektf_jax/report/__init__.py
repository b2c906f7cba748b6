"""Tables and figures, made from result.json files only, but for the last module.

results     result.json -> Run
names       what datasets, models and methods are called
seeds       runs that differ in their seed only; means, deviations, t-tests
select      which runs are which of the paper's models
published   the paper's and the authors' numbers, as data
tables      Tables 2 to 5, all runs, cost
series      metrics over K, for
figures     Figures 2, 3, 4, 5, 7, 8, training curves, and
findings    Findings 1 to 6
render      content -> Markdown, HTML
page        all of it, written
description a page about an encoded dataset
"""
