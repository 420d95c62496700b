\set n random(1, 1000000000)
\set t 1
\set account random(1, 100000)
BEGIN;
SELECT balance FROM business_accounts WHERE id = :account;
\sleep 1250 us
UPDATE business_accounts SET balance = balance + 1 WHERE id = :account;
\sleep 1250 us
@insert@
\sleep 1250 us
INSERT INTO business_transfers (account, amount) VALUES (:account, 1);
\sleep 1250 us
SELECT count(*) FROM business_transfers WHERE account = :account;
COMMIT;
