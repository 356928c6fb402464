-- For docker-compose.yml alone: the relay comes over the network, where the image's pg_hba.conf asks for a password.

ALTER ROLE outbox_relay PASSWORD 'outbox_relay';
