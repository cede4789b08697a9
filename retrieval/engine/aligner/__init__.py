"""The default model: slides, tissue tokens and reports in one space, robust to the hospital.

`statistics` and `words` describe a slide and a report by numbers, `discriminant` and `ridge` fit
projections in closed form, `model` embeds and compares, `fit` trains, `archive` reads plain files.
"""
