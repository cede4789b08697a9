"""The demo archive: synthetic slides with patients, reports and users around them."""
