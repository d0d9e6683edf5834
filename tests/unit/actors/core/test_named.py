"""Tools that descriptions name."""

from __future__ import annotations

from actors.core.named import NamedTools, followed
from actors.core.types import Tool


def tool(name: str, description: str = "", namespace: str = "", title: str = "") -> Tool:
    return Tool(f"{namespace}.{name}", name, title or name, description, namespace=namespace)


def test_names_stand_whole_and_look_like_names() -> None:
    search, film, sort = tool("/search/film"), tool("/film", title="GET /film"), tool("sort")
    text = "Reviews, found by sort. Call /search/film first; then /film/{id}/review, not /film/x. /film."
    review = tool("/film/{id}/review", text)
    names = NamedTools([search, film, sort, review])
    assert names.of(review) == (search.tool_id, film.tool_id)
    assert names.of(search) == ()


def test_a_name_of_two_tools_or_of_another_namespace_names_none() -> None:
    first, twin = tool("get_id", namespace="a"), Tool("a.x", "get_id", "Get", "", namespace="a")
    other = tool("put_id", namespace="b")
    asking = tool("use_it", "After get_id or put_id.", "a")
    assert NamedTools([first, twin, other, asking]).of(asking) == ()
    assert NamedTools([first, other, asking]).of(asking) == (first.tool_id,)
    assert NamedTools([other, asking]).of(tool("ask", "Needs GetVpc, getVpc.", "a")) == ()
    vpc = tool("GetVpc", namespace="a")
    assert NamedTools([vpc]).of(tool("ask", "Needs GetVpc, getVpc.", "a")) == (vpc.tool_id,)


def test_named_tools_follow_and_bring_no_others() -> None:
    names = {"a": ("c", "x"), "x": ("y",), "b": ("a",), "c": ()}
    ranking = [("a", 3.0), ("b", 2.0), ("c", 1.0)]
    assert followed(ranking, names.__getitem__) == [("a", 3.0), ("c", 3.0), ("x", 3.0), ("b", 2.0)]
    assert followed([], names.__getitem__) == []
