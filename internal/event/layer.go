package event

import "fmt"

// Layer says which layer of its container's root a file of OriginImage is from:
// the one that put it there or changed it last. The zero value says that it is
// not known, or that the file is of no such layer.
//
// It is as the kernel has it. Docker's engine lays one layer of its own on top
// of the image's (mount points such as /etc/hosts and /dev/console, .dockerenv),
// so Of is one more than the image has.
type Layer struct {
	// Number is counted from the base of the image, which is 1. The diff id of
	// layer 1 is the first of the workload's image.layers.
	Number uint16 `json:"number"`
	// Of is how many layers the container's root has below what it writes: those
	// of the image, and with Docker one of the engine's own on top.
	Of uint16 `json:"of"`
}

// IsZero reports whether the layer is not known.
func (l Layer) IsZero() bool { return l.Number == 0 }

// DiffID returns the diff id of the layer, given those of the image with the
// base first: asset.Image.Layers. It is empty for the engine's own layer, and
// where the container's root is not made of the image's layers one by one.
func (l Layer) DiffID(image []string) string {
	if !l.fits(image) || l.Number == l.Of {
		return ""
	}
	return image[l.Number-1]
}

// fits reports whether the root is made of these layers and the engine's own.
func (l Layer) fits(image []string) bool {
	return l.Number > 0 && l.Number <= l.Of && int(l.Of) == len(image)+1 && len(image) > 0
}

// Words says which layer it is, given the diff ids of the image or none:
// "image layer 3 of 7". It is empty for one that is not known.
func (l Layer) Words(image []string) string {
	switch {
	case l.IsZero():
		return ""
	case !l.fits(image):
		return fmt.Sprintf("layer %d of %d", l.Number, l.Of)
	case l.Number == l.Of:
		return "the engine's own layer"
	}
	return fmt.Sprintf("image layer %d of %d", l.Number, len(image))
}

// Layer returns the layer of the file that the event is about.
func (e *Event) Layer() Layer {
	switch {
	case e.Exec != nil:
		return e.Exec.Layer
	case e.File != nil:
		return e.File.Layer
	case e.Memory != nil:
		return e.Memory.Layer
	}
	return Layer{}
}
