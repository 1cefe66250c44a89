-- Up Migration

-- Reads all messages once, while everybody goes on reading and writing (SHARE UPDATE EXCLUSIVE).
ALTER TABLE messages VALIDATE CONSTRAINT messages_bound;
