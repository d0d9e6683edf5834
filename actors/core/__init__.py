"""Pure parts: records, prompts, rewards, preferences, ranking, snapshots. Imports neither ray nor vllm."""
