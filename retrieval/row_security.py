"""Who may see the rows of retrieval's tables: the second lock, see `cases.row_security`."""

from cases.row_security import (
    DEPARTMENTS,
    IN_DEPARTMENT,
    OF_IMAGE,
    USER,
    exists,
    opened,
    policies_declare,
)


def declare() -> None:
    """Declare the policies of this app's tables."""
    policies_declare(
        {
            "retrieval_slideindex": OF_IMAGE,
            "retrieval_slideembedding": OF_IMAGE,
            "retrieval_reportembedding": f"{IN_DEPARTMENT} OR {opened('reports', 'report_id')}",
            "retrieval_reportwords": f"{IN_DEPARTMENT} OR {opened('reports', 'report_id')}",
            # One's own, and a colleague's of the same departments or of a slide that one sees.
            "retrieval_searchquery": (
                f"user_id = {USER}"
                f" OR (scope_department_ids <@ {DEPARTMENTS} AND cardinality({DEPARTMENTS}) > 0)"
                f" OR ((text = '') AND {exists('cases_slideimage', 'slide_image_id')})"
            ),
            "retrieval_searchhit": OF_IMAGE,
            "retrieval_feedback": f"user_id = {USER} OR {exists('retrieval_searchhit', 'hit_id')}",
            "retrieval_savedsearch": f"user_id = {USER}",
            "retrieval_slideneighbours": OF_IMAGE,
            "retrieval_mappoint": OF_IMAGE,
            "retrieval_slidequality": OF_IMAGE,
            "retrieval_trainingslide": OF_IMAGE,
        },
        without={
            "retrieval_trainingrun_cohorts": "which cohorts a training learns from, by id",
            "retrieval_trainingrun": "numbers of a training, no patient",
            "retrieval_searchselfcheck": "figures of a department's searches, no patient",
            "retrieval_departmentterm": "abbreviations, no patient",
            "retrieval_votecalibration": "figures of a department's archive, no patient",
        },
    )
