//! Drops on the tray icon of a Mac: what is dropped there is looked at in the library, like what is dropped on its window.
//!
//! tray-icon has no such event and the system's button cannot be subclassed, so a view of ours lies over the button, invisible
//! and out of reach of clicks, which go on to tray-icon's own view below it. Which text or file is accepted is decided in
//! [`super::dragged`]; elsewhere than on a Mac icons in the tray take no drops.
#![expect(
    unsafe_code,
    reason = "a class of AppKit is subclassed, and the names of its kinds of data are foreign statics"
)]

use std::cell::Cell;

use objc2::rc::{Retained, Weak};
use objc2::runtime::ProtocolObject;
use objc2::{DefinedClass, MainThreadMarker, MainThreadOnly, define_class, msg_send};
use objc2_app_kit::{
    NSAutoresizingMaskOptions, NSDragOperation, NSDraggingDestination, NSDraggingInfo, NSPasteboardItem,
    NSPasteboardType, NSPasteboardTypeFileURL, NSPasteboardTypeString, NSPasteboardTypeURL, NSStatusBarButton, NSView,
};
use objc2_foundation::{NSArray, NSObjectProtocol, NSPoint, NSString, NSURL};
use tauri::AppHandle;
use tauri::tray::TrayIcon;

use super::dragged::{Dragged, LONGEST_TEXT, source_of};
use crate::windows;

/// What a drag may do here, the first that its source allows: nothing is copied before the person says so, but the pointer
/// gets its plus sign, which says that something is taken.
const OPERATIONS: [NSDragOperation; 3] = [NSDragOperation::Copy, NSDragOperation::Link, NSDragOperation::Generic];

/// Makes the icon take drops for as long as it is there. To be called again if it is ever hidden and shown: the system then
/// makes another button.
pub(super) fn accept(app: &AppHandle, icon: &TrayIcon) -> tauri::Result<()> {
    let app = app.clone();
    let laid = icon.with_inner_tray_icon(move |icon| {
        let main_thread = MainThreadMarker::new()?;
        let button = icon.ns_status_item()?.button(main_thread)?;
        button.addSubview(&DropTarget::over(&button, app));
        Some(())
    })?;
    if laid.is_none() {
        tracing::warn!("the tray icon takes no drops: it has no button");
    }
    Ok(())
}

/// What a [`DropTarget`] remembers.
struct State {
    app: AppHandle,
    /// Not held: the button holds its subviews.
    button: Weak<NSStatusBarButton>,
    /// Whether what is over the icon is something to look at: asked once when it enters, not at every move.
    accepts: Cell<bool>,
}

define_class!(
    // SAFETY: NSView asks nothing of its subclasses but to be used on the main thread, as this one is, being like its
    // superclass `MainThreadOnly`. It does not implement `Drop`.
    #[unsafe(super(NSView))]
    #[name = "EmbedbarDropTarget"]
    #[ivars = State]
    struct DropTarget;

    // SAFETY: the protocol has no requirements of its own.
    unsafe impl NSObjectProtocol for DropTarget {}

    /// Clicks.
    impl DropTarget {
        // SAFETY: the signature is AppKit's.
        #[unsafe(method_id(hitTest:))]
        fn hit_test(&self, _point: NSPoint) -> Option<Retained<NSView>> {
            // Clicks are for the icon below. Drags, as others have found and AppKit does not write down, come here all the same.
            None
        }
    }

    // SAFETY: the signatures are the protocol's.
    unsafe impl NSDraggingDestination for DropTarget {
        #[unsafe(method(draggingEntered:))]
        fn dragging_entered(&self, drag: &ProtocolObject<dyn NSDraggingInfo>) -> NSDragOperation {
            self.show(source(drag).is_some());
            self.operation(drag)
        }

        #[unsafe(method(draggingUpdated:))]
        fn dragging_updated(&self, drag: &ProtocolObject<dyn NSDraggingInfo>) -> NSDragOperation {
            // Keys that are held down change what the source allows.
            self.operation(drag)
        }

        #[unsafe(method(draggingExited:))]
        fn dragging_exited(&self, _drag: Option<&ProtocolObject<dyn NSDraggingInfo>>) {
            self.show(false);
        }

        #[unsafe(method(draggingEnded:))]
        fn dragging_ended(&self, _drag: &ProtocolObject<dyn NSDraggingInfo>) {
            self.show(false);
        }

        #[unsafe(method(prepareForDragOperation:))]
        fn prepare_for_drag_operation(&self, _drag: &ProtocolObject<dyn NSDraggingInfo>) -> bool {
            true
        }

        #[unsafe(method(performDragOperation:))]
        fn perform_drag_operation(&self, drag: &ProtocolObject<dyn NSDraggingInfo>) -> bool {
            self.show(false);
            let source = source(drag);
            let taken = source.is_some();
            if taken {
                let app = self.ivars().app.clone();
                // Not before this has returned: making a window takes a while, and the source of the drag waits for us.
                tauri::async_runtime::spawn(async move { windows::open_library(&app, source) });
            }
            taken
        }
    }
);

impl DropTarget {
    /// As large as the button, and staying so.
    fn over(button: &Retained<NSStatusBarButton>, app: AppHandle) -> Retained<Self> {
        let state = State { app, button: Weak::from_retained(button), accepts: Cell::new(false) };
        let this = Self::alloc(button.mtm()).set_ivars(state);
        // SAFETY: `initWithFrame:` is the initialiser that NSView's subclasses are to call, and takes a rectangle.
        let this: Retained<Self> = unsafe { msg_send![super(this), initWithFrame: button.bounds()] };
        this.setAutoresizingMask(
            NSAutoresizingMaskOptions::ViewWidthSizable | NSAutoresizingMaskOptions::ViewHeightSizable,
        );
        let [files, links, texts] = kinds();
        this.registerForDraggedTypes(&NSArray::from_slice(&[files, links, texts]));
        this
    }

    /// Shows on the button whether a drop is accepted.
    fn show(&self, accepts: bool) {
        let state = self.ivars();
        if state.accepts.replace(accepts) != accepts
            && let Some(button) = state.button.load()
        {
            button.highlight(accepts);
        }
    }

    /// What the pointer says that a drop does.
    fn operation(&self, drag: &ProtocolObject<dyn NSDraggingInfo>) -> NSDragOperation {
        let allowed = drag.draggingSourceOperationMask();
        let operation = OPERATIONS.into_iter().find(|operation| allowed.contains(*operation));
        operation.filter(|_| self.ivars().accepts.get()).unwrap_or(NSDragOperation::None)
    }
}

/// The kinds of data that are looked at: files, links and texts.
fn kinds() -> [&'static NSPasteboardType; 3] {
    // SAFETY: constants of AppKit, which is linked and sets them before anything of ours runs.
    unsafe { [NSPasteboardTypeFileURL, NSPasteboardTypeURL, NSPasteboardTypeString] }
}

/// What the library is to look at, of what is dragged.
fn source(drag: &ProtocolObject<dyn NSDraggingInfo>) -> Option<String> {
    source_of(drag.draggingPasteboard().pasteboardItems()?.iter().map(|item| dragged(&item)))
}

fn dragged(item: &NSPasteboardItem) -> Dragged {
    let [files, links, texts] = kinds();
    // The Finder names a file by a number, which only the system can turn into a path.
    let file = item.stringForType(files).and_then(|address| NSURL::URLWithString(&address));
    Dragged {
        path: file.and_then(|url| url.filePathURL()?.path()).map(|path| path.to_string()),
        link: item.stringForType(links).and_then(|link| short(&link)),
        text: item.stringForType(texts).and_then(|text| short(&text)),
    }
}

/// A text that is not too long: somebody may drag a whole book past the icon.
fn short(text: &NSString) -> Option<String> {
    (text.length() <= LONGEST_TEXT).then(|| text.to_string())
}
