"""A LangChain retriever whose documents are tools. Needs: pip install 'cohyde[client]' langchain-core."""

from __future__ import annotations

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from cohyde import ToolSearch


class ToolRetriever(BaseRetriever):
    """Each document is a tool: its text is title and description; its metadata hold id, schema, and the request to report on."""

    search: ToolSearch
    k: int | None = None
    """Tools to find; None: as many as are likely right."""
    namespaces: list[str] | None = None

    # LangChain runs it in a thread for those who await it.
    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        answer = self.search.search(query, k=self.k, namespaces=self.namespaces)
        documents = []
        for tool in answer.tools:
            about = tool.model_dump(include={"tool_id", "name", "title", "namespace", "score", "input_schema"})
            text = f"{tool.title}\n{tool.description or ''}".strip()
            documents.append(Document(id=tool.tool_id, page_content=text, metadata={**about, "request_id": answer.request_id}))
        return documents


# retriever = ToolRetriever(search=ToolSearch("http://127.0.0.1:8000"), k=5)
# retriever.invoke("my pictures take forever to load in Australia")
