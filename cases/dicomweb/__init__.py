"""DICOM over the web (PS3.18): STOW-RS, QIDO-RS and WADO-RS under /dicomweb/.

`wire/` is pure: media types, multipart, the JSON model, query matching; no Django there.
Views derive from `base.DicomWebView`, which knows tokens and sessions, scopes, errors and the
audit. Under ASGI a StreamingHttpResponse must be given an *async* iterator: of a plain one
Django makes a list first.
"""
