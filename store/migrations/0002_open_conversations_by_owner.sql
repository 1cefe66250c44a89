-- Up Migration

-- What an agent or a team has open is the most frequent list. Through the indexes over all their conversations it read years of closed
-- ones, through the one by state everybody's open ones: 79 ms for an agent's five among 50,000 assigned, 0.1 ms by these.
CREATE INDEX conversations_open_by_agent ON conversations (workspace_id, agent_id, id) WHERE closed_at IS NULL;
CREATE INDEX conversations_open_by_team ON conversations (workspace_id, team_id, id) WHERE closed_at IS NULL;
