"""Makes the files of one planned slide. Runs in worker processes: imports no Django."""

import multiprocessing
import os
import threading
from pathlib import Path

from cases.demo.dicom import write_series
from cases.demo.plan import PlannedSlide
from cases.demo.pyramid import pyramid
from cases.demo.stain import SCANNERS
from cases.demo.tiff import write_tiff
from cases.demo.tissue import paint_tissue


def write_slide(slide: PlannedSlide, folder: Path) -> Path:
    """Paint the slide and write it into a new folder `slide.key` there; returns that folder."""
    scanner = SCANNERS[slide.scanner]
    pixels = paint_tissue(slide.diagnosis.key, slide.seed, slide.size, scanner=scanner)
    levels = pyramid(pixels, quality=scanner.jpeg_quality)
    target = folder / slide.key
    target.mkdir(parents=True)
    if slide.is_dicom:
        write_series(target, levels, slide.header())
    else:
        write_tiff(
            target / f"{slide.barcode}.tiff",
            levels,
            scanner.mpp,
            description="Synthetic slide of the PathSearch demo archive",
            model=scanner.name,
        )
    return target


def end_with_parent() -> None:
    """End this painter when the command is killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
