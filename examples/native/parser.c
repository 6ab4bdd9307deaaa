/* A native library with a bug: it dereferences null on input that it doesn't expect. */

int parser_length(const char *text) {
    /* Volatile, so that no compiler turns the access into something else than a load from null. */
    const char *volatile end = 0;
    if (text[0] == '\0') {
        return *end;
    }
    int length = 0;
    while (text[length] != '\0') {
        length++;
    }
    return length;
}
