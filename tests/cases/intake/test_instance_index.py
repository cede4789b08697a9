"""The index of DICOM instances: made at intake, made again for those that have none."""

import json
import threading

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from cases.models import SlideInstance, SlideInstanceIndex
from cases.services import instances
from cases.wsi.metadata import list_text
from tests.cases.intake.conftest import only_item
from tests.synthetic_slide import write_dicom_slide


def test_intake_indexes_every_instance(deliver, department, tmp_path, db):
    image = only_item(deliver(write_dicom_slide(tmp_path / "slide", label=True))).slide_image
    rows = SlideInstanceIndex.objects.filter(instance__slide_image=image)
    assert rows.count() == 4
    for row in rows.select_related("instance"):
        (told,) = json.loads(list_text([bytes(row.metadata)], "https://here/dicomweb"))
        assert told["00080018"]["Value"] == [row.instance.sop_instance_uid]
        opened = instances.open_instance(row.instance)
        assert opened.table.frame_count == row.instance.frame_count
        assert opened.read(1).startswith(b"\xff\xd8")
    # The facts of the upload do not carry it a second time.
    facts = image.upload_items.get().facts["instances"]
    assert len(facts) == 4
    assert not any(told["metadata"] or told["frame_table"] for told in facts)


def test_older_instances_are_indexed_by_the_command_and_once_only(
    deliver, department, tmp_path, db, capsys
):
    image = only_item(deliver(write_dicom_slide(tmp_path / "slide"))).slide_image
    before = {row.pk: bytes(row.metadata) for row in SlideInstanceIndex.objects.all()}
    SlideInstanceIndex.objects.all().delete()
    call_command("index_instances")
    assert "3 instances indexed" in capsys.readouterr().out
    assert {r.pk: bytes(r.metadata) for r in SlideInstanceIndex.objects.all()} == before
    call_command("index_instances")
    assert "0 instances indexed" in capsys.readouterr().out
    lost = image.instances.first()
    SlideInstanceIndex.objects.filter(instance=lost).delete()
    instances.instance_file(lost).unlink()
    with pytest.raises(CommandError):
        call_command("index_instances")
    assert str(lost.pk) in capsys.readouterr().err


@pytest.mark.django_db(transaction=True)
def test_many_first_requests_make_one_index(deliver, department, tmp_path):
    image = only_item(deliver(write_dicom_slide(tmp_path / "slide"))).slide_image
    SlideInstanceIndex.objects.all().delete()
    row = SlideInstance.objects.select_related("slide_image").filter(slide_image=image).first()
    gate, failures = threading.Barrier(4), []

    def ask():
        try:
            gate.wait(10)
            assert set(instances.index_ensure([row])) == {row.pk}
        except Exception as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
    assert SlideInstanceIndex.objects.count() == 1
