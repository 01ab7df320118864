"""What tests of several rooms share: parts, planted faults, terminals, servers, kills. Imported as `support.NAME`."""
