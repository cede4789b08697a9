"""What is done with requests: associate, echo, store, commit. Each answer is a named status."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from django.db import DatabaseError
from pydicom.dataset import Dataset
from pydicom.uid import (
    ImplicitVRLittleEndian,
    VLWholeSlideMicroscopyImageStorage,
)
from pynetdicom import evt
from pynetdicom.sop_class import StorageCommitmentPushModelInstance

from cases.dimse.bounded import TooMuch
from cases.dimse.dataset_head import HEAD_BYTES, read_sop_uids
from cases.dimse.peers import PeerBook
from cases.errors import InsufficientStorage
from cases.models import DicomPeer
from cases.services import store
from cases.services.audit import Action, Channel, access_event_record, origin_set
from cases.services.commitment import MAX_INSTANCES, commitment_request
from cases.services.network import instance_receive

log = logging.getLogger(__name__)

SUCCESS = 0x0000
# PS3.4 B.2.3: C-STORE.
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
# PS3.7 Annex C.
PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
INVALID_ARGUMENT = 0x0115
NO_SUCH_ACTION = 0x0123
NOT_AUTHORIZED = 0x0124
RESOURCE_LIMITATION = 0x0213
# PS3.8 9.3.4: rejected for good, by the service user.
REJECTED, SERVICE_USER = 0x01, 0x01
CALLING_NOT_RECOGNISED, CALLED_NOT_RECOGNISED = 0x03, 0x07

PREAMBLE_BYTES = 132
DENIED_EVERY_SECONDS = 60.0


class Handlers:
    """The handlers of one server.

    Parameters
    ----------
    ae_title
        Our own: others that are called are not here.
    peers
        Who may call.
    """

    def __init__(self, ae_title: str, peers: PeerBook) -> None:
        self._ae_title = ae_title
        self._peers = peers
        self._sending: dict[int, tuple[Any, float]] = {}
        self._denied_at: dict[tuple[str, str], float] = {}

    def events(self) -> list[Any]:
        """Return what pynetdicom is to call for what."""
        return [
            (evt.EVT_REQUESTED, self.on_requested),
            (evt.EVT_C_ECHO, self.on_echo),
            (evt.EVT_C_STORE, self.on_store),
            (evt.EVT_N_ACTION, self.on_action),
        ]

    def busy_peers(self, patience_seconds: float) -> set[Any]:
        """Return the ids of peers that are in the middle of sending an instance."""
        since = time.monotonic() - patience_seconds
        # One whose association broke off in the middle stands here for good otherwise.
        for key, (_peer, at) in list(self._sending.items()):
            if at <= since:
                self._sending.pop(key, None)
        return {peer for peer, _at in list(self._sending.values())}

    def on_progress(self, assoc: Any) -> None:
        """Note that an instance is still coming; end it when the disk fills up."""
        if assoc.peer is not None:
            self._sending[id(assoc)] = (assoc.peer.pk, time.monotonic())
        try:
            store.require_free_space(0)
        except InsufficientStorage as error:
            raise TooMuch("no free disk space for an instance") from error

    def on_requested(self, event: Any) -> None:
        """Reject the association unless it calls us and an active peer calls."""
        assoc = event.assoc
        request = assoc.requestor.primitive
        called = str(getattr(request, "called_ae_title", "")).strip()
        calling = str(getattr(request, "calling_ae_title", "")).strip()
        address = assoc.requestor.address_info.address
        assoc.peer = self._peers.find(calling, address)
        if assoc.peer is None:
            self._reject(assoc, CALLING_NOT_RECOGNISED, calling, address)
        elif called != self._ae_title:
            self._reject(assoc, CALLED_NOT_RECOGNISED, calling, address)

    def _reject(self, assoc: Any, reason: int, calling: str, address: str) -> None:
        log.warning("association rejected, reason %d", reason)
        # A node that keeps trying fills neither the audit nor the log's disk.
        before = self._denied_at.get((calling, address), float("-inf"))
        if time.monotonic() - before > DENIED_EVERY_SECONDS:
            if len(self._denied_at) > 1000:
                self._denied_at.clear()
            self._denied_at[calling, address] = time.monotonic()
            try:
                access_event_record(
                    user=None,
                    action=Action.DENIED,
                    channel=Channel.DICOM,
                    address=address,
                    detail={"ae_title": calling[:16], "reason": reason},
                )
            except DatabaseError as error:
                log.error("the audit could not be written: %s", type(error).__name__)
        assoc.acse.send_reject(REJECTED, SERVICE_USER, reason)
        assoc.is_rejected = True
        evt.trigger(assoc, evt.EVT_REJECTED, {})
        assoc.kill()

    def _peer(self, assoc: Any) -> DicomPeer | None:
        """Return the peer if it is still allowed to send, and let the audit know of it."""
        address = assoc.requestor.address_info.address
        origin_set(channel=Channel.DICOM, address=address)
        return self._peers.find(assoc.peer.ae_title, address)

    def on_echo(self, event: Any) -> int:
        """Answer that we are here."""
        return SUCCESS

    def on_store(self, event: Any) -> int:
        """Take an instance into the peer's batch; success means that it is on disk."""
        peer = self._peer(event.assoc)
        if peer is None:
            return NOT_AUTHORIZED
        request = event.request
        source = Path(event.dataset_path)
        request._dataset_file.flush()
        uid = str(request.AffectedSOPInstanceUID)
        status = _check(source, request.AffectedSOPClassUID, uid, event.context.transfer_syntax)
        if status != SUCCESS:
            return status
        try:
            upload_file = instance_receive(peer=peer, sop_instance_uid=uid, source=source)
        except InsufficientStorage:
            log.warning("no free disk space for an instance")
            return OUT_OF_RESOURCES
        except (DatabaseError, OSError) as error:
            log.error("an instance could not be kept: %s", type(error).__name__)
            return OUT_OF_RESOURCES
        finally:
            self._sending.pop(id(event.assoc), None)
        log.info("upload %s has file %s", upload_file.upload_id, upload_file.pk)
        return SUCCESS

    def on_action(self, event: Any) -> tuple[int, Dataset | None]:
        """Keep a storage commitment request; its answer comes when the instances are safe."""
        peer = self._peer(event.assoc)
        if peer is None:
            return NOT_AUTHORIZED, None
        if event.request.RequestedSOPInstanceUID != StorageCommitmentPushModelInstance:
            return NO_SUCH_INSTANCE, None
        if event.action_type != 1:
            return NO_SUCH_ACTION, None
        try:
            transaction_uid, instances = _requested(event.action_information)
        except Exception as error:  # pydicom raises what the broken value leads to
            log.warning("a commitment request cannot be read: %s", type(error).__name__)
            return INVALID_ARGUMENT, None
        if not instances:
            return INVALID_ARGUMENT, None
        if len(instances) > MAX_INSTANCES:
            return RESOURCE_LIMITATION, None
        try:
            commitment = commitment_request(
                peer=peer, transaction_uid=transaction_uid, instances=instances
            )
        except DatabaseError as error:
            log.error("a commitment request could not be kept: %s", type(error).__name__)
            return PROCESSING_FAILURE, None
        log.info("storage commitment %s asked for", commitment.pk)
        return SUCCESS, None


def _check(source: Path, sop_class_uid: str, sop_instance_uid: str, syntax: str) -> int:
    """Return SUCCESS when the dataset is what the command announced."""
    if sop_class_uid != VLWholeSlideMicroscopyImageStorage:
        return DOES_NOT_MATCH
    with source.open("rb") as file:
        begin = file.read(PREAMBLE_BYTES + 12)
        # The file's own meta group, which pynetdicom wrote: its length is its first element.
        meta = int.from_bytes(begin[PREAMBLE_BYTES + 8 : PREAMBLE_BYTES + 12], "little")
        file.seek(PREAMBLE_BYTES + 12 + meta)
        head = file.read(HEAD_BYTES)
    if len(head) < 16:
        return CANNOT_UNDERSTAND
    found_class, found_uid = read_sop_uids(head, is_implicit=syntax == ImplicitVRLittleEndian)
    if found_class not in ("", sop_class_uid) or found_uid not in ("", sop_instance_uid):
        return DOES_NOT_MATCH
    return SUCCESS


def _requested(information: Dataset) -> tuple[str, list[tuple[str, str]]]:
    """Return the transaction UID and the (SOP class, SOP instance) UIDs of a request."""
    transaction_uid = _uid(information.TransactionUID)
    instances = [
        (_uid(item.ReferencedSOPClassUID), _uid(item.ReferencedSOPInstanceUID))
        for item in information.ReferencedSOPSequence
    ]
    return transaction_uid, instances


def _uid(value: Any) -> str:
    text = str(value)
    if not 0 < len(text) <= 64 or not all(part.isdigit() for part in text.split(".")):
        raise ValueError("not a UID")
    return text
