#!/usr/bin/python3
"""The StatusNotifierWatcher of a desktop that has no other: tray items register here, and so are exported on the bus.

It claims to have a host, without which libayatana-appindicator falls back to the X11 system tray. It draws nothing:
`traybar.py` does. Prints `ready` once it owns the name.
"""

from gi.repository import Gio, GLib

NAME = "org.kde.StatusNotifierWatcher"
PATH = "/StatusNotifierWatcher"
INTERFACE = """
<node>
  <interface name="org.kde.StatusNotifierWatcher">
    <method name="RegisterStatusNotifierItem"><arg type="s" direction="in"/></method>
    <method name="RegisterStatusNotifierHost"><arg type="s" direction="in"/></method>
    <property name="RegisteredStatusNotifierItems" type="as" access="read"/>
    <property name="IsStatusNotifierHostRegistered" type="b" access="read"/>
    <property name="ProtocolVersion" type="i" access="read"/>
    <signal name="StatusNotifierItemRegistered"><arg type="s"/></signal>
    <signal name="StatusNotifierItemUnregistered"><arg type="s"/></signal>
    <signal name="StatusNotifierHostRegistered"/>
  </interface>
</node>
"""


class Watcher:
    """The registered items, each as `bus name` + `object path`."""

    def __init__(self, bus):
        self.bus = bus
        self.items = []
        interface = Gio.DBusNodeInfo.new_for_xml(INTERFACE).interfaces[0]
        bus.register_object(PATH, interface, self.on_call, self.on_get, None)
        bus.signal_subscribe(
            "org.freedesktop.DBus", "org.freedesktop.DBus", "NameOwnerChanged",
            "/org/freedesktop/DBus", None, Gio.DBusSignalFlags.NONE, self.on_owner_changed,
        )

    def on_call(self, _bus, sender, _path, _interface, method, parameters, invocation):
        (service,) = parameters.unpack()
        if method == "RegisterStatusNotifierItem":
            # Programs give either the path of their item or the name of their connection.
            item = sender + service if service.startswith("/") else service + "/StatusNotifierItem"
            if item not in self.items:
                self.items.append(item)
                self.emit("StatusNotifierItemRegistered", item)
        else:
            self.emit("StatusNotifierHostRegistered")
        invocation.return_value(None)

    def on_get(self, _bus, _sender, _path, _interface, name):
        if name == "RegisteredStatusNotifierItems":
            return GLib.Variant("as", self.items)
        if name == "IsStatusNotifierHostRegistered":
            return GLib.Variant("b", True)
        return GLib.Variant("i", 0)

    def on_owner_changed(self, _bus, _sender, _path, _interface, _signal, parameters):
        name, _old_owner, new_owner = parameters.unpack()
        if new_owner:
            return
        for item in [item for item in self.items if item.split("/", 1)[0] == name]:
            self.items.remove(item)
            self.emit("StatusNotifierItemUnregistered", item)

    def emit(self, signal, *values):
        arguments = GLib.Variant("(" + "s" * len(values) + ")", values) if values else None
        self.bus.emit_signal(None, PATH, NAME, signal, arguments)


def main():
    loop = GLib.MainLoop()
    Gio.bus_own_name(
        Gio.BusType.SESSION, NAME, Gio.BusNameOwnerFlags.NONE,
        lambda bus, _name: setattr(loop, "watcher", Watcher(bus)),
        lambda _bus, _name: print("ready", flush=True),
        lambda _bus, _name: loop.quit(),
    )
    loop.run()


main()
