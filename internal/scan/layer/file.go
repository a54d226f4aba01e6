package layer

import (
	"io/fs"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// content is how far the content of the current file has come.
type content struct {
	head     []byte // gathered until there is enough to ask with
	headWant int
	asked    bool
	feed     *feed   // nil: nobody wants the file
	dir      fs.File // the folder that it is in, where a folder is read
}

// beginFile begins a regular file of that size.
func (c *collector) beginFile(size int64) error {
	c.file.head = c.file.head[:0]
	c.file.headWant = int(min(size, analyse.HeadSize))
	c.file.asked = false
	if size == 0 {
		return c.ask(c.file.head)
	}
	return nil
}

// Content takes a piece of the current file.
func (c *collector) Content(b []byte) error {
	f := &c.file
	if !f.asked {
		if f.headWant == 0 {
			return nil // of no file: an entry of a type that nobody knows
		}
		if len(f.head) == 0 && len(b) >= f.headWant {
			if err := c.ask(b[:f.headWant]); err != nil {
				return err
			}
		} else {
			n := min(len(b), f.headWant-len(f.head))
			f.head = append(f.head, b[:n]...)
			b = b[n:]
			if len(f.head) < f.headWant {
				return nil
			}
			if err := c.ask(f.head); err != nil {
				return err
			}
			if f.feed != nil {
				if err := f.feed.write(f.head); err != nil {
					return err
				}
			}
		}
	}
	if f.feed == nil {
		return nil
	}
	return f.feed.write(b)
}

// Hole takes a piece of the current file that is nothing but zeros. It costs
// nothing unless an analyser reads it.
func (c *collector) Hole(n int64) error {
	if !c.file.asked {
		head := make([]byte, min(n, int64(c.file.headWant-len(c.file.head))))
		if err := c.Content(head); err != nil {
			return err
		}
		n -= int64(len(head))
	}
	if c.file.feed == nil {
		return nil
	}
	return c.file.feed.zeros(n)
}

// ask asks the analysers about the current file and begins it for those that
// want it.
func (c *collector) ask(head []byte) error {
	c.file.asked = true
	if len(c.o.Aliases) > 0 {
		return c.askAliases(head)
	}
	who := c.crew.wanting(&c.offer, head)
	if len(who) == 0 {
		return nil
	}
	c.mark()
	c.file.feed = &feed{}
	return c.crew.begin(c.file.feed, &c.offer, who)
}

// askAliases asks about the current file under its other names.
func (c *collector) askAliases(head []byte) error {
	f := &feed{}
	for _, a := range c.o.Aliases {
		o, ok := c.alias(a)
		if !ok {
			continue
		}
		c.mark()
		c.latest[o.key] = o.order
		who := c.crew.wanting(&o, head)
		if len(who) == 0 {
			continue
		}
		c.file.feed = f
		if err := c.crew.begin(f, &o, who); err != nil {
			return err
		}
	}
	return nil
}

// alias is the current file under another name, if it has that.
func (c *collector) alias(a Alias) (offer, bool) {
	e := c.entry
	o := offer{entry: &e, path: c.offer.path, key: c.offer.key, order: c.offer.order}
	switch {
	case a.KeepAs:
		e.Path, o.path = a.As, a.As
		// It is told from the entry of that name, the hard link.
		o.key = HashPath(a.As).Child("\x00").Key()
		return o, c.offer.path == a.Real && (a.Before == 0 || o.order < a.Before)
	case c.offer.path == a.Real:
		e.Path = a.As
		return o, true
	}
	e.Path = a.As + c.offer.path[min(len(a.Real), len(c.offer.path)):]
	return o, below(c.offer.path, a.Real)
}

// offerBare offers an entry that has no content of its own.
func (c *collector) offerBare() error {
	if len(c.o.Aliases) > 0 {
		return nil
	}
	who := c.crew.wanting(&c.offer, nil)
	if len(who) == 0 {
		return nil
	}
	c.mark()
	f := &feed{}
	err := c.crew.begin(f, &c.offer, who)
	f.end(nil)
	return err
}

// endFile ends the current file; why says that it is not complete.
func (c *collector) endFile(why error) {
	if c.file.feed != nil {
		c.file.feed.end(why)
	}
	c.file.feed, c.file.headWant, c.file.asked = nil, 0, false
}
