#!/usr/bin/python3
"""A file manager's icon: a small window whose only content is one file that can be dragged out of it.

    drag.py PATH X Y        where its upper left corner is; prints `ready` once it is shown, `dropped` or `refused` after a drag

The pointer is moved by whoever started it; where it lets go, X's own protocol for drags (XDND) hands the file over.
"""

import pathlib
import sys

import gi

gi.require_version("Gdk", "3.0")
gi.require_version("Gtk", "3.0")
from gi.repository import Gdk, GLib, Gtk  # noqa: E402

SIZE = 64


def main() -> None:
    path, x, y = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    # Without a frame and in front of everything, wherever it is put.
    window = Gtk.Window(type=Gtk.WindowType.POPUP)
    window.set_default_size(SIZE, SIZE)
    icon = Gtk.EventBox()
    icon.add(Gtk.Label(label="file"))
    window.add(icon)
    target = Gtk.TargetEntry.new("text/uri-list", 0, 0)
    icon.drag_source_set(Gdk.ModifierType.BUTTON1_MASK, [target], Gdk.DragAction.COPY)
    taken = []

    def give(_widget, _context, selection, _info, _time):
        taken.append(selection.set_uris([path.as_uri()]))

    def end(_widget, _context):
        print("dropped" if taken else "refused", flush=True)

    icon.connect("drag-data-get", give)
    icon.connect("drag-end", end)
    window.move(x, y)
    window.show_all()
    GLib.timeout_add(200, lambda: print("ready", flush=True))
    Gtk.main()


if __name__ == "__main__":
    main()
