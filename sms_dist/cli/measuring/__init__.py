"""How fast a configuration is on this host: trained, evaluated and run for a few seconds."""
