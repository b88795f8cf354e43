-- kind: contract
-- From now on complete pages are sealed, and versions that know no pages would miss their events.
INSERT INTO parley.sealing DEFAULT VALUES ON CONFLICT DO NOTHING;
