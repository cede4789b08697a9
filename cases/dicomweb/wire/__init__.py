"""What goes over the wire, without Django."""
