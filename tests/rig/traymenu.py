#!/usr/bin/python3
"""Reads or activates the menu of the one registered tray item, over the bus, as a desktop's panel does.

    traymenu.py show        one line of JSON: {"icon", "title", "menu": [{"id", "label", "enabled", "checked", ...}]}
    traymenu.py click ID    activates the entry with that id

Exit status 2 while there is no tray item.
"""

import json
import sys

from gi.repository import Gio, GLib

WATCHER = ("org.kde.StatusNotifierWatcher", "/StatusNotifierWatcher")
MENU = "com.canonical.dbusmenu"
TIMEOUT_MS = 5000


def call(bus, service, path, interface, method, arguments=None):
    return bus.call_sync(service, path, interface, method, arguments, None, Gio.DBusCallFlags.NONE, TIMEOUT_MS, None)


def properties(bus, service, path, interface):
    reply = call(bus, service, path, "org.freedesktop.DBus.Properties", "GetAll", GLib.Variant("(s)", (interface,)))
    return reply.unpack()[0]


def entry(node):
    """One node of the layout and all below it."""
    number, values, children = node
    separator = values.get("type") == "separator"
    return {
        "id": number,
        # An underscore marks the next letter as the key of the entry.
        "label": values.get("label", "").replace("__", "\0").replace("_", "").replace("\0", "_"),
        "separator": separator,
        "enabled": values.get("enabled", True) and not separator,
        "visible": values.get("visible", True),
        "checked": values["toggle-state"] == 1 if values.get("toggle-type") else None,
        "children": [entry(child) for child in children],
    }


def main():
    bus = Gio.bus_get_sync(Gio.BusType.SESSION)
    items = properties(bus, *WATCHER, WATCHER[0]).get("RegisteredStatusNotifierItems", [])
    if not items:
        sys.exit(2)
    service, path = items[0].split("/", 1)
    item = properties(bus, service, "/" + path, "org.kde.StatusNotifierItem")
    menu = item["Menu"]
    if sys.argv[1] == "show":
        call(bus, service, menu, MENU, "AboutToShow", GLib.Variant("(i)", (0,)))
        layout = call(bus, service, menu, MENU, "GetLayout", GLib.Variant("(iias)", (0, -1, [])))
        root = entry(layout.unpack()[1])
        print(json.dumps({"icon": item.get("IconName"), "title": item.get("Title"), "menu": root["children"]}))
    elif sys.argv[1] == "click":
        event = GLib.Variant("(isvu)", (int(sys.argv[2]), "clicked", GLib.Variant("s", ""), 0))
        call(bus, service, menu, MENU, "Event", event)
    else:
        sys.exit(__doc__)


main()
