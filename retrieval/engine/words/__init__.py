"""Words of pathologists: what a question means, and what a report affirms and denies.

Pure: no database, no Django. `terms` is the dictionary, `expressions` finds grades, stages,
sides and codes, `negation` what is denied, `sections` the parts of a report, `reading` turns
a report into searchable text, `question` a question into conditions, `spelling` finds typos.
"""
