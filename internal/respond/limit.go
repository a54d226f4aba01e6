package respond

import (
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
)

// Limits of how much is done. A rule that is wrong, or somebody who provokes one on
// purpose, must not be able to take a service down by our own hand.
const (
	// PerHost is how many deeds a host takes in rateTime: a person who cleans up a
	// whole host has a script, and a host has some tens of containers.
	PerHost = 30
	// PerGroup is how many of one group.
	PerGroup = 10
	// Snapshots is how many of them a host takes in rateTime: each reads and writes
	// up to some hundred megabytes.
	Snapshots = 4
	rateTime  = time.Minute
)

// Rates count deeds that were begun. The zero value is ready; the caller locks.
type Rates struct {
	host      []time.Time
	snapshots []time.Time
	groups    map[asset.Group][]time.Time
}

// Take counts a deed of a group, or says why it is one too many. Undoing is never
// held back, and what changes nothing is not counted.
func (r *Rates) Take(d *response.Deed, g asset.Group, now time.Time) error {
	if d.DryRun || d.Kind == response.Release || d.Kind == response.Reinstate {
		return nil
	}
	if r.groups == nil {
		r.groups = map[asset.Group][]time.Time{}
	}
	r.host, r.snapshots = recent(r.host, now), recent(r.snapshots, now)
	for name, times := range r.groups {
		if r.groups[name] = recent(times, now); len(r.groups[name]) == 0 {
			delete(r.groups, name)
		}
	}
	const again = "wait a minute, or do it on the host by hand"
	switch {
	case len(r.host) >= PerHost:
		return fault.New(fault.Exhausted, "%d deeds were done on this host in the last minute, which is the most", PerHost).With(again)
	case len(r.groups[g]) >= PerGroup:
		return fault.New(fault.Exhausted, "%d deeds were done to group %s on this host in the last minute, which is the most", PerGroup, g).With(again)
	case d.Kind == response.Snapshot && len(r.snapshots) >= Snapshots:
		return fault.New(fault.Exhausted, "%d snapshots were taken on this host in the last minute, which is the most", Snapshots).With("wait a minute")
	}
	r.host = append(r.host, now)
	r.groups[g] = append(r.groups[g], now)
	if d.Kind == response.Snapshot {
		r.snapshots = append(r.snapshots, now)
	}
	return nil
}

// recent leaves out what is older than rateTime; times are in order.
func recent(times []time.Time, now time.Time) []time.Time {
	for len(times) > 0 && now.Sub(times[0]) >= rateTime {
		times = times[1:]
	}
	return times
}

// Untouchable says why nothing is ever done to a workload; empty for one that may
// be. own is the container that this program runs in, empty for none. A snapshot,
// which changes nothing, may be taken of all.
func Untouchable(w asset.Workload, own string) string {
	switch {
	case own != "" && w.ID == own:
		return "it is the container of this agent itself: without it nobody watches this host"
	case isPause(w):
		return "it is the pause container of an ECS task, which holds the network of all its containers"
	case isECSAgent(w):
		return "it is the ECS agent: without it ECS takes this host for lost"
	}
	return ""
}

// isPause knows the containers that ECS itself puts into a task.
func isPause(w asset.Workload) bool {
	return strings.HasPrefix(w.ECS.Container, "~internal~ecs~") ||
		w.ECS.TaskARN != "" && lastOf(asset.Repository(w.Image.Reference)) == "amazon-ecs-pause"
}

// isECSAgent knows the ECS agent by the name that its start-up script gives it and
// by its image; tasks of ECS are never it, whatever they call themselves.
func isECSAgent(w asset.Workload) bool {
	return w.ECS.TaskARN == "" && w.Name == "ecs-agent" && lastOf(asset.Repository(w.Image.Reference)) == "amazon-ecs-agent"
}

func lastOf(repository string) string { return repository[strings.LastIndexByte(repository, '/')+1:] }
