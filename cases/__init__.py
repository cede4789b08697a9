"""Case management: departments, patients, cases, slides, reports, cohorts and their intake."""
