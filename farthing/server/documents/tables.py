"""The tables of documents, in the file of the conversations.

    document ─▶ passages (offsets in its text) ─▶ passage_words (what search finds them by)

A passage and its row in the index share their number; a trigger takes the row away with the passage, also where a
document takes its passages with it.
"""

TABLES = """
create table if not exists documents (
    id text primary key, title text not null, created real not null, bytes integer not null, text text not null
) strict;
create table if not exists passages (
    number integer primary key, document text not null references documents(id) on delete cascade,
    start integer not null, stop integer not null
) strict;
create index if not exists passages_of on passages(document, start);
create virtual table if not exists passage_words using fts5(
    words, tokenize = "porter unicode61 remove_diacritics 2 categories 'L* N* M*'"
);
create trigger if not exists passage_removed after delete on passages begin
    delete from passage_words where rowid = old.number;
end;
"""
