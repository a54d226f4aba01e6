package detect

import "github.com/castellan-security/castellan/internal/detect/story"

// Book holds stories of threats that may still go on: see package story.
type Book = story.Book

// Story is one story in a Book.
type Story = story.Story

// How long a story of a Book may still go on after its last threat, and how many it
// holds.
const (
	KeepStory  = story.KeepFor
	MaxStories = story.MaxStories
)

// NewBook returns a book without stories.
func NewBook() *Book { return story.NewBook() }
