"""Configuration of the cases app."""

from django.apps import AppConfig


class CasesConfig(AppConfig):
    name = "cases"
    verbose_name = "Case management"

    def ready(self) -> None:
        from cases import (
            openings,
            receivers,  # noqa: F401  (connects the signals)
            row_scope,
        )
        from cases.dicomweb.virtual import virtual_objects
        from cases.services.export_sources import use_virtual
        from cases.sign_on import receivers as sign_on_receivers  # noqa: F401

        # DICOMweb is built on the services; what exports need of it is handed down here.
        use_virtual(virtual_objects)
        row_scope.opens_cases(openings.case_ids)
