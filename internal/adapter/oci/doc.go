// Package oci is the door through which images come: from a registry, from an
// OCI image layout (a folder or a tar archive), and from an archive in the form
// of `docker save`, in a file or through a pipe.
//
// It describes an image and hands over the bytes of its layers as they are
// stored. Indexes, manifests and configurations are small: they are read whole,
// within the limits of limit.go, and their digest, size and kind are checked
// here. Layers are large: they are handed over as they come, never kept and
// never written to disk, and whoever reads them checks their digests.
//
// Whatever it reads was written by somebody else. A document that is too
// large, contradicts itself or could be read in two ways is refused with one
// error that says what to do.
//
// A file that belongs to no image, the advisory database, is kept in the same
// places as an artifact: see Artifact.
//
// What a registry holds is listed for whoever watches it: see
// Registry.Repositories and Registry.Images.
//
// Signatures and attestations are attached to images: see Registry.Resolve,
// Registry.Envelopes and Registry.Attach, and for layouts ResolvePath,
// PathEnvelopes and AttachPath. What they say is not looked at here.
//
// It is not for what is inside a layer, not for pushing images, and not for a
// container engine (package docker), whose archives it can read all the same:
// see ReadArchive.
package oci
