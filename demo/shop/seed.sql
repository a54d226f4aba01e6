-- What the store knows when it starts. The cards are the numbers that card
-- companies publish for testing.
CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL, cents INTEGER NOT NULL);
INSERT INTO product (name, cents) VALUES
    ('Teapot, blue', 2450), ('Teapot, red', 2450), ('Mug', 890), ('Tea towel', 650),
    ('Sugar bowl', 1290), ('Candle', 480), ('Lamp', 5900), ('Vase', 3200);

CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL, card TEXT NOT NULL);
INSERT INTO customer (name, email, card) VALUES
    ('Ada', 'ada@customer.example', '4242424242424242'),
    ('Grace', 'grace@customer.example', '5555555555554444'),
    ('Edsger', 'edsger@customer.example', '378282246310005');

CREATE TABLE purchase (
    id INTEGER PRIMARY KEY,
    product INTEGER NOT NULL REFERENCES product (id),
    quantity INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND 100),
    status TEXT NOT NULL DEFAULT 'new',
    total INTEGER
);
