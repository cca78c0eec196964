/* The program mentat-init, as the agent carries it: guest/init_image.h. */
    .section .rodata
    .global guest_init_begin, guest_init_end
    .balign 16
guest_init_begin:
    .incbin PATH
guest_init_end:
    .section .note.GNU-stack, "", @progbits
