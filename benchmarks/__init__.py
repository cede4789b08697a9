"""Commands that print figures; they make and measure archives of their own, as their owner."""

from cases.row_scope import process_acts_for_system

process_acts_for_system(as_owner=True)
