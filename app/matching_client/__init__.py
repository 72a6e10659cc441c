"""How other roles speak to the matching engine."""
