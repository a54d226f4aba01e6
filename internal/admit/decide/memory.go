package decide

import (
	"sync"
	"time"
	"weak"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
	"github.com/castellan-security/castellan/internal/admit/policy"
)

const (
	// maxMemory bounds what is remembered of one policy, in bytes as rememberedSize
	// counts them: 10,000 images of twenty rules that refuse little.
	maxMemory = 32 << 20
	// rememberedSize is what an entry takes besides its answers and texts.
	rememberedSize = 512
	answerSize     = 8
	// worthRemembering is from how many things of an image on it is quicker to
	// remember what a rule said of them than to ask.
	worthRemembering = 4
)

// Memory is what the rules of one policy said of what is known of images: of
// hundreds of vulnerabilities the same is said for each of thousands of requests.
// It is for one policy and safe for concurrent use; the zero Memory is empty.
//
// A condition is remembered only if its text shows that it reads nothing but those
// facts, and what the entry is named by besides; and only until the clock may make
// it say something else. Facts are named by their address, and are not kept by it.
type Memory struct {
	mu   sync.Mutex
	of   map[memoryKey]*remembered
	size int
}

// memoryKey is all that a lasting condition reads.
type memoryKey struct {
	rule   *policy.Rule
	facts  weak.Pointer[admission.Facts]
	image  admission.Image // as it was asked for
	place  admission.Place
	door   admission.Door
	action admission.Action
}

// remembered is what a condition said.
type remembered struct {
	answers      []condition.Answer
	clock        bool // it asked how late it is
	since, until time.Time
}

// get returns what was said, if that still holds.
func (m *Memory) get(k *memoryKey, now time.Time) *remembered {
	m.mu.Lock()
	x := m.of[*k]
	m.mu.Unlock()
	if x == nil || !x.since.IsZero() && !now.After(x.since) || !x.until.IsZero() && !now.Before(x.until) {
		return nil
	}
	return x
}

// put remembers what was said. What is too much makes room by forgetting all.
func (m *Memory) put(k *memoryKey, x *remembered) {
	size := sizeOf(k, x)
	if size > maxMemory/8 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.of[*k]
	if was != nil {
		m.size -= sizeOf(k, was)
	}
	if m.of == nil || m.size+size > maxMemory {
		m.of, m.size = map[memoryKey]*remembered{}, 0
	}
	m.of[*k] = x
	m.size += size
}

func sizeOf(k *memoryKey, x *remembered) int {
	i, p := &k.image, &k.place
	texts := len(i.Reference) + len(i.Registry) + len(i.Repository) + len(i.Tag) + len(i.Digest) + len(i.ID) +
		len(p.Account) + len(p.Region) + len(p.Cluster) + len(p.Service) + len(p.Host) + len(p.File)
	return rememberedSize + texts + answerSize*len(x.answers)
}

// listener remembers what a rule says of an image, and recalls it.
type listener struct {
	d    *decision
	rule *policy.Rule

	listening bool
	key       memoryKey
	facts     *admission.Facts
	answers   []condition.Answer
}

// listen returns what remembers for a rule; nil if nothing can be.
func (d *decision) listen(rule *policy.Rule) *listener {
	if d.memory == nil || !rule.For.OfImage || !rule.Deny.Basis.Lasting || !rule.For.Many && !rule.Deny.Loops() {
		return nil
	}
	return &listener{d: d, rule: rule}
}

// recall is condition.Recall. What isn't known is listened to from now on, until
// the next image.
func (l *listener) recall(i *condition.Image, n int) ([]condition.Answer, bool) {
	l.end()
	d := l.d
	if d.modeOf(l.rule, i) == policy.Off {
		return nil, true
	}
	if i.Facts == nil || i.Unsaid() || l.rule.For.Many && n < worthRemembering {
		return nil, false
	}
	b := &l.rule.Deny.Basis
	l.facts = i.Facts
	l.key = memoryKey{rule: l.rule, facts: weak.Make(i.Facts)}
	if b.Image {
		l.key.image = *i.Image
	}
	if b.Place {
		l.key.place = d.r.Place
	}
	if b.Door {
		l.key.door = d.r.Door
	}
	if b.Action {
		l.key.action = d.r.Action
	}
	if x := d.memory.get(&l.key, d.now); x != nil {
		d.clock = d.clock || x.clock
		return x.answers, true
	}
	d.clock = d.view.UsedClock() || d.clock
	l.listening, l.answers = true, nil
	return nil, false
}

// heard notes what the condition said of one thing: that it holds, or that it must
// be asked again, because it could not be told or failed.
func (l *listener) heard(index int, holds bool) {
	if l != nil && l.listening {
		l.answers = append(l.answers, condition.Answer{Index: int32(index), Holds: holds})
	}
}

// end remembers what was heard of the last image.
func (l *listener) end() {
	if l == nil || !l.listening {
		return
	}
	l.listening = false
	x := &remembered{answers: l.answers, clock: l.d.view.UsedClock()}
	l.d.clock = l.d.clock || x.clock
	ok := false
	if x.since, x.until, ok = l.rule.Deny.Basis.Span(l.facts, l.d.now); ok {
		l.d.memory.put(&l.key, x)
	}
}

// drop forgets what was heard: the rule could not be asked to the end.
func (l *listener) drop() {
	if l != nil {
		l.listening = false
	}
}
