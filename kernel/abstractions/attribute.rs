// SPDX-License-Identifier: GPL-2.0-only

//! Device attributes: files in sysfs that show and take text.
//!
//! A driver says what a file is called and what its text means ([`Attribute`]); where the object
//! behind the device is found is said once per kind of device ([`Owner`]); [`device_attributes!`]
//! ties the two into the static tables that the driver core wants.
//!
//! The files are created once the object is there, and taken away before it goes, which waits for readers
//! and writers inside: the object outlives each call.
//!
//! C header: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h)

use super::{
    bindings,
    device::raw, //
};
use core::{
    fmt,
    marker::PhantomData,
    ptr, //
};
use kernel::{
    device::Device,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};

/// One file of a device.
pub trait Attribute<T: ?Sized> {
    /// The file's name.
    const NAME: &'static CStr;

    /// The file's permissions.
    const MODE: u16 = 0o644;

    /// Writes the file's text, newline included, into `page`.
    fn show(owner: &T, page: &mut Page<'_>) -> Result;

    /// Takes `text` as it was written, trailing newline included.
    fn store(_owner: &T, _text: &[u8]) -> Result {
        Err(EPERM)
    }
}

/// A kind of device behind which an object of type [`Owner::Target`] stands.
///
/// # Safety
///
/// [`Owner::from_device`] must return the object that belongs to the device for as long as the
/// device has the attributes that name this owner.
pub unsafe trait Owner {
    /// The object that the attributes are about.
    type Target: Sync;

    /// Finds the object behind `dev`.
    ///
    /// # Safety
    ///
    /// `dev` must be a valid device of this kind whose attributes exist.
    unsafe fn from_device<'a>(dev: *mut bindings::device) -> &'a Self::Target;
}

/// The page that an attribute's text is written to; what does not fit is refused.
pub struct Page<'a> {
    buffer: &'a mut [u8],
    used: usize,
}

impl fmt::Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used.checked_add(text.len()).ok_or(fmt::Error)?;
        self.buffer
            .get_mut(self.used..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

/// A `struct device_attribute`, made from an [`Attribute`].
#[repr(transparent)]
pub struct DeviceAttribute(bindings::device_attribute);

// SAFETY: The structure is only read once it is initialised.
unsafe impl Sync for DeviceAttribute {}

impl DeviceAttribute {
    /// Makes the C structure of attribute `A` of devices of kind `O`.
    pub const fn new<O: Owner, A: Attribute<O::Target>>() -> Self {
        let mut attribute: bindings::attribute = pin_init::zeroed();
        attribute.name = A::NAME.to_bytes_with_nul().as_ptr().cast();
        attribute.mode = A::MODE;
        Self(bindings::device_attribute {
            attr: attribute,
            __bindgen_anon_1: bindings::device_attribute__bindgen_ty_1 {
                show: Some(show_callback::<O, A>),
            },
            __bindgen_anon_2: bindings::device_attribute__bindgen_ty_2 {
                store: Some(store_callback::<O, A>),
            },
        })
    }

    /// The generic part, as a group lists it.
    pub const fn entry(&'static self) -> *mut bindings::attribute {
        (&raw const self.0.attr).cast_mut()
    }
}

/// Shows the attribute `A` of `dev` in the page at `buffer`.
///
/// # Safety
///
/// Called by sysfs only, with a device of kind `O` and a buffer of one page.
unsafe extern "C" fn show_callback<O: Owner, A: Attribute<O::Target>>(
    dev: *mut bindings::device,
    _attribute: *mut bindings::device_attribute,
    buffer: *mut c_char,
) -> isize {
    // SAFETY: `dev` is of kind `O`, and its attribute is being read.
    let owner = unsafe { O::from_device(dev) };
    // SAFETY: sysfs hands over a zeroed buffer of one page that nobody else uses meanwhile.
    let buffer = unsafe { core::slice::from_raw_parts_mut(buffer, PAGE_SIZE) };
    let mut page = Page { buffer, used: 0 };

    match A::show(owner, &mut page) {
        // A page's length fits.
        Ok(()) => isize::try_from(page.used).unwrap_or(0),
        Err(error) => errno(error),
    }
}

/// Stores the `count` bytes at `buffer` to the attribute `A` of `dev`.
///
/// # Safety
///
/// Called by sysfs only, with a device of kind `O` and a buffer of `count` bytes.
unsafe extern "C" fn store_callback<O: Owner, A: Attribute<O::Target>>(
    dev: *mut bindings::device,
    _attribute: *mut bindings::device_attribute,
    buffer: *const c_char,
    count: usize,
) -> isize {
    // SAFETY: `dev` is of kind `O`, and its attribute is being written.
    let owner = unsafe { O::from_device(dev) };
    // SAFETY: sysfs hands over `count` bytes that nobody changes meanwhile.
    let text = unsafe { core::slice::from_raw_parts(buffer, count) };

    match A::store(owner, text) {
        // At most a page was written, so the length fits.
        Ok(()) => isize::try_from(count).unwrap_or(0),
        Err(error) => errno(error),
    }
}

fn errno(error: Error) -> isize {
    // CAST: An errno is a small number.
    error.to_errno() as isize
}

/// The null-terminated list of the attributes of a group.
#[repr(transparent)]
pub struct List<const N: usize>([*mut bindings::attribute; N]);

// SAFETY: The list points to statics and is only read.
unsafe impl<const N: usize> Sync for List<N> {}

impl<const N: usize> List<N> {
    /// Makes a list; the last entry must be null, which [`device_attributes!`] sees to.
    pub const fn new(entries: [*mut bindings::attribute; N]) -> Self {
        Self(entries)
    }
}

/// A `struct attribute_group` without a name: its files lie in the device's own folder.
#[repr(transparent)]
pub struct Group(bindings::attribute_group);

// SAFETY: The group points to a static and is only read.
unsafe impl Sync for Group {}

impl Group {
    /// Makes a group of the attributes in `list`.
    pub const fn new<const N: usize>(list: &'static List<N>) -> Self {
        let mut group: bindings::attribute_group = pin_init::zeroed();
        group.__bindgen_anon_2 = bindings::attribute_group__bindgen_ty_2 {
            attrs: (&raw const list.0).cast_mut().cast(),
        };
        Self(group)
    }
}

/// Files for devices of kind `O` that somebody else made.
#[repr(transparent)]
pub struct Extra<O>(Group, PhantomData<fn() -> O>);

impl<O: Owner> Extra<O> {
    /// Makes it of the attributes in `list`, which are all of kind `O`; in a folder of that name, or in the
    /// device's own.
    pub const fn new<const N: usize>(
        list: &'static List<N>,
        folder: Option<&'static CStr>,
    ) -> Self {
        let mut group = Group::new(list);
        if let Some(folder) = folder {
            group.0.name = folder.to_bytes_with_nul().as_ptr().cast();
        }
        Self(group, PhantomData)
    }
}

/// [`Extra`] files that a device has, until this is dropped; before the device goes.
pub struct Files {
    device: ARef<Device>,
    group: *const bindings::attribute_group,
}

// SAFETY: The group is static.
unsafe impl Send for Files {}
// SAFETY: As above.
unsafe impl Sync for Files {}

impl Files {
    /// Makes the files.
    pub fn add<O>(device: &O, files: &'static Extra<O>) -> Result<Self>
    where
        O: Owner<Target = O> + AsRef<Device>,
    {
        let device: ARef<Device> = device.as_ref().into();
        let group = &raw const files.0 .0;
        // SAFETY: The device is of the kind that the attributes are for, and the group is static.
        to_result(unsafe { bindings::sysfs_create_group(&raw mut (*raw(&device)).kobj, group) })?;
        Ok(Self { device, group })
    }

    /// The device that has the files.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // SAFETY: The device has the files, and whoever is inside is waited for.
        unsafe { bindings::sysfs_remove_group(&raw mut (*raw(&self.device)).kobj, self.group) };
    }
}

/// The null-terminated list of groups that a driver or a device type carries.
#[repr(transparent)]
pub struct Groups([*const bindings::attribute_group; 2]);

// SAFETY: The list points to a static and is only read.
unsafe impl Sync for Groups {}

impl Groups {
    /// Makes the list of the one `group`.
    pub const fn new(group: &'static Group) -> Self {
        Self([&raw const group.0, ptr::null()])
    }

    /// The list as the driver core takes it.
    pub const fn as_ptr(&'static self) -> *const *const bindings::attribute_group {
        (&raw const self.0).cast()
    }
}

/// Declares the attributes of a kind of device.
///
/// ```ignore
/// device_attributes! {
///     /// What a user sees of a region.
///     pub static ATTRIBUTES: SysramRegion = [OnlineType];
/// }
/// ```
#[macro_export]
macro_rules! device_attributes {
    (
        $(#[$meta:meta])*
        $vis:vis static $name:ident: $owner:ty = [$($attribute:ty),+ $(,)?];
    ) => {
        $(#[$meta])*
        $vis static $name: $crate::abstractions::attribute::Groups = {
            use $crate::abstractions::attribute::{Group, Groups};

            static GROUP: Group = Group::new($crate::attribute_list!($owner, $($attribute),+));
            Groups::new(&GROUP)
        };
    };
}

/// Declares attributes for devices that somebody else made, in a folder of that name or in the device's own;
/// [`Files::add`](attribute::Files::add) puts them there.
///
/// ```ignore
/// extra_attributes! {
///     /// What a memdev gets.
///     static FILES: Memdev, Some(c"folder") => [Size];
/// }
/// ```
#[macro_export]
macro_rules! extra_attributes {
    (
        $(#[$meta:meta])*
        $vis:vis static $name:ident: $owner:ty, $folder:expr => [$($attribute:ty),+ $(,)?];
    ) => {
        $(#[$meta])*
        $vis static $name: $crate::abstractions::attribute::Extra<$owner> =
            $crate::abstractions::attribute::Extra::new(
                $crate::attribute_list!($owner, $($attribute),+),
                $folder,
            );
    };
}

/// The list of the attributes of a kind of device.
#[macro_export]
macro_rules! attribute_list {
    ($owner:ty, $($attribute:ty),+) => {{
        use $crate::abstractions::attribute::{DeviceAttribute, List};

        const LENGTH: usize = [$(stringify!($attribute)),+].len() + 1;
        static LIST: List<LENGTH> = List::new([
            $({
                static FILE: DeviceAttribute = DeviceAttribute::new::<$owner, $attribute>();
                FILE.entry()
            },)+
            core::ptr::null_mut(),
        ]);
        &LIST
    }};
}
