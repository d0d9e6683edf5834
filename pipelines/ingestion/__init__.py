"""From where tools are described (OpenAPI, MCP, function lists, SDKs, benchmarks) into one catalog: ``cohyde catalog``."""
