from pipelines.catalogs.text import NearCopies, content_stems, overlap, stem_frequency, strip_html


def test_markup_entities_and_spaces_go_and_paragraphs_become_lines() -> None:
    markup = "<fullname>Put</fullname><p>Puts a <a>Thing</a> &amp; its\n <code>Id</code> .</p><ul><li>one</li><li>two</li></ul>"
    assert strip_html(markup) == "Puts a Thing & its Id.\none\ntwo"


def test_notes_stand_behind_what_the_operation_does() -> None:
    assert strip_html("<note><p>End of support.</p></note> <p>Deletes it.</p>") == "Deletes it.\nEnd of support."


def test_plain_text_only_loses_its_spare_spaces() -> None:
    assert strip_html(" a  b\n c ") == "a b c"


def test_overlap_counts_stems_without_stop_words() -> None:
    left, right = content_stems("Deleting the old buckets"), content_stems("delete a bucket")
    assert (left, right) == ({"delet", "old", "bucket"}, {"delet", "bucket"})
    assert overlap(left, right) == 2 / 3
    assert overlap(frozenset(), frozenset()) == 0


def test_near_copies_are_found_above_the_threshold_only() -> None:
    texts = [frozenset("abcde"), frozenset("abcxy"), frozenset("vwxyz"), frozenset("abcdef")]
    index = NearCopies(stem_frequency(texts), threshold=0.6)
    for text in texts:
        index.add(text)
    assert index.matches(frozenset("abcde")) == [0, 3]  # 5/5 and 5/6; abcxy shares 3 of 7
    assert index.matches(frozenset("abc")) == []  # 3/5 is not above 0.6
    assert index.matches(frozenset()) == []


def test_the_prefix_filter_loses_no_near_copy() -> None:
    words = "abcdefghij"
    texts = [frozenset(words[i % 10] for i in range(start, start + length)) for start in range(10) for length in range(1, 9)]
    index = NearCopies(stem_frequency(texts), threshold=0.5)
    for text in texts:
        index.add(text)
    for text in texts:
        assert index.matches(text) == [i for i, other in enumerate(texts) if overlap(text, other) > 0.5]
