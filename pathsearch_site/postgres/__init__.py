"""Django's Postgres, in the application's role and with the scope that row security reads."""
