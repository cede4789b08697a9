"""The DICOM network door: C-ECHO, C-STORE and storage commitment, in a process of its own."""
