// The conversations: newest first, searched as one types, renamed, exported, imported, deleted.

import { useState } from "preact/hooks";
import { api } from "../api";
import { conversations, current, newConversation, refreshList, remove, rename, search, takeIn } from "../state";
import { day } from "../text/words";
import type { Summary } from "../types";

export function Side({ close }: { close: () => void }) {
  const now = Date.now();
  let heading = "";
  return (
    <>
      <div class="sidetop">
        <button type="button" class="new" onClick={() => { newConversation(); close(); }}>New conversation</button>
        <input id="search" type="search" placeholder="Search" aria-label="Search conversations" value={search.value}
          onInput={(event) => { search.value = event.currentTarget.value; void refreshList(); }} />
        <label class="import">Import a conversation
          <input type="file" accept=".json,application/json" onChange={({ currentTarget: field }) => {
            const file = field.files?.[0];
            field.value = "";
            if (file) void takeIn(file).then(close);
          }} />
        </label>
      </div>
      <ul class="list">
        {conversations.value.map((one) => {
          const under = day(one.updated, now);
          const head = under === heading ? null : under;
          heading = under;
          return <Entry key={one.id} one={one} head={head} close={close} />;
        })}
        {conversations.value.length === 0 && <li class="none">{search.value ? "Nothing holds these words." : "Nothing yet."}</li>}
      </ul>
    </>
  );
}

function Entry({ one, head, close }: { one: Summary; head: string | null; close: () => void }) {
  const [open, unfold] = useState(false);
  const [renaming, ask] = useState(false);
  const isCurrent = current.value?.id === one.id;
  const title = one.title || "Untitled";
  return (
    <li class={isCurrent ? "entry current" : "entry"}>
      {head && <h2>{head}</h2>}
      {renaming ? (
        <form class="renaming" onSubmit={(event) => {
          event.preventDefault();
          void rename(one.id, String(new FormData(event.currentTarget).get("title")));
          ask(false);
        }}>
          <input name="title" aria-label="Title" defaultValue={one.title} maxLength={200} ref={(field) => field?.focus()}
            onKeyDown={(event) => { if (event.key === "Escape") { event.stopPropagation(); ask(false); } }}
            onBlur={() => ask(false)} />
        </form>
      ) : (
        <div class="row">
          <a href={`#/c/${one.id}`} aria-current={isCurrent ? "page" : undefined} title={title} onClick={close}>
            <span class="title">{title}</span>
            {one.excerpt && <span class="excerpt">{one.excerpt}</span>}
          </a>
          <button type="button" class="menu" aria-label={`More about ${title}`} aria-expanded={open}
            onClick={() => unfold(!open)}>⋯</button>
        </div>
      )}
      {open && !renaming && (
        <div class="acts">
          <button type="button" onClick={() => { unfold(false); ask(true); }}>Rename</button>
          <a download href={api.exported(one.id, "markdown")}>Markdown</a>
          <a download href={api.exported(one.id, "json")}>JSON</a>
          <Delete one={one} />
        </div>
      )}
    </li>
  );
}

/** Two clicks, because there is no way back. */
function Delete({ one }: { one: Summary }) {
  const [sure, ask] = useState(false);
  return (
    <button type="button" class="bad" onBlur={() => ask(false)} onClick={() => (sure ? void remove(one.id) : ask(true))}>
      {sure ? "Really delete?" : "Delete"}
    </button>
  );
}
