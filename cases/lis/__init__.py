"""Messages of hospital information systems (HL7 v2)."""
