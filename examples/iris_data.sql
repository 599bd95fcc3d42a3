CREATE TABLE iris_data (
    id serial PRIMARY KEY,
    "timestamp" timestamp,
    sepal_length float8,
    sepal_width float8,
    petal_length float8,
    petal_width float8,
    target int
);
