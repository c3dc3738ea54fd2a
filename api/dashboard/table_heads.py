"""The heads of tables: named for screen readers, and buttons where a column orders the rows.

Rows are ordered by the server, which is asked by the event ``order`` with a column's name.
"""

from collections.abc import Sequence
from typing import Any

Column = dict[str, Any]

HEADER = """
<q-tr>
  <q-th v-for="col in props.cols" :key="col.name" :props="props" scope="col" :aria-sort="col.order">
    <button v-if="col.orders" class="sort" @click="() => $parent.$emit('order', col.name)">{{ col.label }}<q-icon
      v-if="col.order" :name="col.order === 'ascending' ? 'arrow_drop_up' : 'arrow_drop_down'" size="16px" /></button>
    <template v-else>{{ col.label }}</template>
  </q-th>
</q-tr>
"""
"""For the slot ``header``; columns with ``orders`` have a button."""


def ordered(columns: Sequence[Column], by: str | None, *, is_descending: bool = False) -> list[Column]:
    """Return columns of which one says how it orders the rows; ``by`` None: none does."""
    order = "descending" if is_descending else "ascending"
    return [{**each, "order": order} if each["name"] == by else dict(each) for each in columns]
