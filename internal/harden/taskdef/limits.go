package taskdef

import (
	"slices"

	"github.com/castellan-security/castellan/internal/harden/intent"
	"github.com/castellan-security/castellan/internal/profile"
)

// leastDescriptors is below what programs take for granted.
const leastDescriptors = 1024

// limits sets the open files, and notes the limits that ECS has no word for.
func (h *hardener) limits() error {
	l := h.p.Limits
	if l.Processes > 0 {
		h.note(intent.Wider, profile.ControlResource, "processes", "ECS has no limit of processes in a task definition (nproc counts those of the user on the whole host): have at most %d by ECS_TASK_PIDS_LIMIT on the hosts, or have castellan watch hold them", l.Processes)
	}
	if l.WriteBytes > 0 || l.NewConnections > 0 {
		h.note(intent.Wider, profile.ControlResource, "rates", "ECS has no limits of writing and of new connections: castellan watch holds them")
	}
	if l.Descriptors == 0 {
		return nil
	}
	const key = "ulimits"
	items, err := h.listOf(h.c, h.place, key)
	if err != nil {
		return err
	}
	most := number(max(l.Descriptors, leastDescriptors))
	want := of("name", "nofile", "softLimit", most, "hardLimit", most)
	kept := slices.Clone(items)
	for i, item := range kept {
		o, ok := item.(*object)
		if !ok {
			return invalid("read task definition: an item of %s is no object", within(h.place, key))
		}
		if name, _ := o.get("name"); name == "nofile" {
			kept[i] = want
			h.set(h.c, h.place, key, &list{items: kept}, "one process opens at most %d files", l.Descriptors)
			return nil
		}
	}
	h.set(h.c, h.place, key, &list{items: append(kept, want)}, "one process opens at most %d files", l.Descriptors)
	return nil
}

// memory limits the memory where nothing does, and notes what it might be.
func (h *hardener) memory() error {
	const unit = 1 << 20
	l := h.p.Limits
	if l.CPU > 0 {
		const share = 1024 // of a processor, as ECS counts
		h.note(intent.Advice, profile.ControlResource, "cpu", "the group takes at most %d thousandths of a processor, %d CPU units; the task definition says %d", l.CPU, l.CPU*share/1000, amount(h.c, "cpu"))
	}
	if l.Memory == 0 {
		return nil
	}
	most := (l.Memory + unit - 1) / unit
	now, task := amount(h.c, "memory"), amount(h.task, "memory")
	switch {
	case task > 0 && most > task:
		h.note(intent.Advice, profile.ControlResource, "memory", "the group takes up to %d MiB, and the whole task has %d", most, task)
	case now == 0:
		h.set(h.c, h.place, "memory", number(most), "the group takes up to %d MiB, and nothing kept it from taking all of the task's or the host's", most)
	case now != most:
		h.note(intent.Advice, profile.ControlResource, "memory", "the group takes up to %d MiB; the task definition says %d", most, now)
	}
	return nil
}
