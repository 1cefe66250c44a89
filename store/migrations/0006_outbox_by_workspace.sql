-- Up Migration

-- Rather give up and be started again than let everybody queue behind a lock that waits for some long reader.
SET LOCAL lock_timeout = '5s';

-- Each workspace's nudges stand together, so that the relay can take some of each (store/outbox.ts). Wakes have their own index since
-- 0002; with both, a row is in its table's primary key and in one other index, as before.
CREATE INDEX outbox_nudges ON outbox (shard, workspace_id, id) WHERE wake_conversation_id IS NULL;
DROP INDEX outbox_shard;
