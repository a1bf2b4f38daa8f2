#!/usr/bin/python3
"""A bar along the top of the screen with the registered tray items; a click opens an item's real menu. For screenshots.

    traybar.py WIDTH        the bar's width in pixels; prints `ready` once it is shown
"""

import sys

import gi

gi.require_version("Gtk", "3.0")
gi.require_version("DbusmenuGtk3", "0.4")
from gi.repository import DbusmenuGtk3, Gdk, GdkPixbuf, Gio, GLib, Gtk  # noqa: E402

HEIGHT = 28
ICON = 20
REFRESH_MS = 250
STYLE = b"""
window { background: #f2f2f4; }
button { padding: 0 6px; border: 0; background: none; box-shadow: none; min-height: 0; }
label { color: #333; font-size: 12px; }
"""


def properties(bus, service, path, interface):
    reply = bus.call_sync(
        service, path, "org.freedesktop.DBus.Properties", "GetAll", GLib.Variant("(s)", (interface,)),
        None, Gio.DBusCallFlags.NONE, 2000, None,
    )
    return reply.unpack()[0]


class Bar:
    """A window of the kind that window managers leave alone, and one button for each tray item."""

    def __init__(self, width):
        self.bus = Gio.bus_get_sync(Gio.BusType.SESSION)
        self.buttons = {}
        window = Gtk.Window(type=Gtk.WindowType.POPUP)
        window.set_default_size(width, HEIGHT)
        window.move(0, 0)
        self.box = Gtk.Box(spacing=2)
        self.box.pack_start(Gtk.Label(label="  test desktop"), False, False, 4)
        window.add(self.box)
        window.show_all()

    def refresh(self):
        try:
            watcher = properties(self.bus, "org.kde.StatusNotifierWatcher", "/StatusNotifierWatcher",
                                 "org.kde.StatusNotifierWatcher")
            items = watcher["RegisteredStatusNotifierItems"]
            for gone in [item for item in self.buttons if item not in items]:
                self.box.remove(self.buttons.pop(gone))
            for item in items:
                self.show(item)
        except GLib.Error:
            pass  # the program ended between two questions
        return True

    def show(self, item):
        service, path = item.split("/", 1)
        values = properties(self.bus, service, "/" + path, "org.kde.StatusNotifierItem")
        button = self.buttons.get(item)
        if button is None:
            button = Gtk.Button()
            button.icon = Gtk.Image()
            button.name = None
            button.add(button.icon)
            button.popup = DbusmenuGtk3.Menu.new(service, values["Menu"])
            button.connect("clicked", lambda clicked: clicked.popup.popup_at_widget(
                clicked, Gdk.Gravity.SOUTH_WEST, Gdk.Gravity.NORTH_WEST, None))
            self.box.pack_start(button, False, False, 0)
            self.buttons[item] = button
            button.show_all()
        if values["IconName"] != button.name:
            button.name = values["IconName"]
            pixels = GdkPixbuf.Pixbuf.new_from_file_at_size(button.name, ICON, ICON)
            button.icon.set_from_pixbuf(pixels)


def main():
    provider = Gtk.CssProvider()
    provider.load_from_data(STYLE)
    Gtk.StyleContext.add_provider_for_screen(
        Gdk.Screen.get_default(), provider, Gtk.STYLE_PROVIDER_PRIORITY_APPLICATION)
    bar = Bar(int(sys.argv[1]))
    GLib.timeout_add(REFRESH_MS, bar.refresh)
    print("ready", flush=True)
    Gtk.main()


main()
