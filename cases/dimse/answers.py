"""Sends the answers of storage commitment to the peers, each on an association of its own."""

import logging
import ssl

from django.conf import settings
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE, build_role
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from cases.models import StorageCommitment
from cases.services.commitment import (
    commitment_not_sent,
    commitment_sent,
    commitments_claim,
    commitments_settle,
)

log = logging.getLogger(__name__)

ALL_SAFE, SOME_FAILED = 1, 2  # PS3.4 J.3.3: event type
TIMEOUT_SECONDS = 30


def answer_all(client_tls: ssl.SSLContext | None) -> int:
    """Decide what can be decided and send what is due; returns how many were sent."""
    commitments_settle()
    sent = 0
    for commitment in commitments_claim():
        error = _send(commitment, client_tls)
        if error:
            log.warning("storage commitment %s not answered: %s", commitment.pk, error)
            commitment_not_sent(commitment, error)
        else:
            commitment_sent(commitment)
            sent += 1
    return sent


def event_information(commitment: StorageCommitment) -> tuple[int, Dataset]:
    """Return event type and information of the answer (PS3.4 Table J.3-2)."""
    information = Dataset()
    information.TransactionUID = commitment.transaction_uid
    safe = [_reference(i) for i in commitment.instances if not i.get("reason")]
    failed = [_reference(i) for i in commitment.instances if i.get("reason")]
    if safe:
        information.ReferencedSOPSequence = Sequence(safe)
    if failed:
        information.FailedSOPSequence = Sequence(failed)
    return SOME_FAILED if failed else ALL_SAFE, information


def _reference(instance: dict) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = instance["sop_class_uid"]
    item.ReferencedSOPInstanceUID = instance["sop_instance_uid"]
    if instance.get("reason"):
        item.FailureReason = instance["reason"]
    return item


def _send(commitment: StorageCommitment, client_tls: ssl.SSLContext | None) -> str:
    """Send one answer; returns what went wrong, empty for nothing."""
    peer = commitment.peer
    if peer.uses_tls and client_tls is None:
        return "the peer wants TLS and no certificate is set"
    ae = AE(ae_title=settings.DICOM_AE_TITLE)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = TIMEOUT_SECONDS
    ae.connection_timeout = TIMEOUT_SECONDS
    ae.add_requested_context(StorageCommitmentPushModel)
    # We open the association and are the SCP on it all the same (PS3.7 D.3.3.4).
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    association = ae.associate(
        peer.address,
        peer.port,
        ae_title=peer.ae_title,
        ext_neg=[role],
        tls_args=(client_tls, peer.address) if peer.uses_tls else None,
    )
    if not association.is_established:
        return "the peer takes no association"
    try:
        event_type, information = event_information(commitment)
        status, _reply = association.send_n_event_report(
            information,
            event_type,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
    except ValueError:
        return "the peer does not accept us as its storage commitment provider"
    finally:
        association.release()
    if not status:
        return "the peer did not reply"
    return "" if status.Status == 0 else f"the peer replied with status {status.Status:#06x}"
