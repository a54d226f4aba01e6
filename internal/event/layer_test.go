package event_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/event"
)

func TestLayer(t *testing.T) {
	image := []string{"sha256:a", "sha256:b", "sha256:c"}
	tests := []struct {
		name  string
		layer event.Layer
		image []string
		id    string // of the diff
		words string
	}{
		{"not known", event.Layer{}, image, "", ""},
		{"base", event.Layer{Number: 1, Of: 4}, image, "sha256:a", "image layer 1 of 3"},
		{"topmost", event.Layer{Number: 3, Of: 4}, image, "sha256:c", "image layer 3 of 3"},
		{"the engine's", event.Layer{Number: 4, Of: 4}, image, "", "the engine's own layer"},
		{"of an image that is not known", event.Layer{Number: 4, Of: 4}, nil, "", "layer 4 of 4"},
		{"alone, of an image that is not known", event.Layer{Number: 1, Of: 1}, nil, "", "layer 1 of 1"},
		{"root that was made of fewer", event.Layer{Number: 1, Of: 2}, image, "", "layer 1 of 2"},
		{"root without a layer of the engine", event.Layer{Number: 3, Of: 3}, image, "", "layer 3 of 3"},
		{"root that was made of more", event.Layer{Number: 5, Of: 5}, image, "", "layer 5 of 5"},
		{"number beyond", event.Layer{Number: 9, Of: 4}, image, "", "layer 9 of 4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.layer.DiffID(tt.image); got != tt.id {
				t.Errorf("diff id %q, want %q", got, tt.id)
			}
			if got := tt.layer.Words(tt.image); got != tt.words {
				t.Errorf("words %q, want %q", got, tt.words)
			}
		})
	}
}

func TestLayerOfEvent(t *testing.T) {
	l := event.Layer{Number: 2, Of: 5}
	tests := []struct {
		name string
		e    event.Event
		want event.Layer
	}{
		{"exec", event.Event{Exec: &event.Exec{Layer: l}}, l},
		{"file", event.Event{File: &event.File{Layer: l}}, l},
		{"memory", event.Event{Memory: &event.Memory{Layer: l}}, l},
		{"another", event.Event{DNS: &event.DNS{}}, event.Layer{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.e.Layer(); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
