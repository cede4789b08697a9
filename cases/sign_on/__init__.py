"""How people sign on: what allauth asks of the house, limits of sessions, second factors."""
